//! What the engine looks at a hundred times a second (twenty while unarmed).

use std::sync::atomic::Ordering;

use vswap_platform::{clock, pagemap, proc};
use vswap_units::{BLOCK_PAGES, PAGE_SHIFT, PAGE_SIZE};

use crate::budget::Scope;
use crate::engine::Engine;
use crate::publish::Publisher;
use crate::victims::Victims;

/// Far from the budget, what is unmanaged is looked at this often.
const UNARMED_LOOK_NS: u64 = 1_000_000_000;

impl Engine {
    /// One look: control, budget, arming, reclaim, counters.
    pub(crate) fn tick(&self, publisher: &Publisher) {
        if let Some(bytes) = publisher.asked_budget() {
            let _ = self.set_ram(bytes);
        }
        self.sample();
        if self.is_armed() {
            let over = self.held() > self.budget.low();
            if (over || self.groups.any())
                && let Some(mut worker) = self.workers.take(0)
            {
                self.reclaim_groups(&mut worker);
                if over {
                    self.reclaim(&mut worker);
                }
            }
        } else {
            self.look_unarmed();
        }
        if self.pool_is_large() || self.cleaning_may_pay() {
            self.write_event.signal();
        }
        self.publish_gauges();
        publisher.publish(&self.counters, &self.latency);
        self.publish_tree();
        self.looks.fetch_add(1, Ordering::Relaxed);
    }

    /// Reads the kernel's truth about this process (5 us).
    pub(crate) fn sample(&self) {
        let mark = self.budget.mark();
        let Ok(statm) = proc::statm() else { return };
        let anon = statm.anon_bytes();
        self.budget.sample(anon, mark);
        if self.is_armed() {
            let unmanaged = anon.saturating_sub(self.own_bytes());
            self.counters.unmanaged_bytes.set(unmanaged);
        }
        let held = self.held();
        self.counters.held_bytes.set(held);
        self.counters.held_peak_bytes.max(held);
        self.counters
            .unmanaged_peak_bytes
            .max(self.counters.unmanaged_bytes.get());
    }

    /// While unarmed nobody counts pages: what is unmanaged is what the kernel
    /// counts less what is present in the range. That takes 1-4 ms per gigabyte,
    /// so far from the budget it is asked once a second.
    fn look_unarmed(&self) {
        if self.budget.scope() == Scope::Space {
            // Allocations look for themselves, but a smaller budget comes between them.
            if self.is_near_budget(0) {
                self.arm_from_tick();
            }
            return;
        }
        let handed_out = self.counters.handed_out_bytes.get();
        let anon = self.counters.held_bytes.get();
        let known = self.counters.unmanaged_bytes.get();
        let now = clock::boot_ns();
        let rested = now - self.unarmed_look_ns.load(Ordering::Relaxed) > UNARMED_LOOK_NS;
        let near = anon >= self.budget.low() / 2 || handed_out + known >= self.budget.low();
        if !near && !rested {
            return;
        }
        self.unarmed_look_ns.store(now, Ordering::Relaxed);
        let used = self.high_water_bytes();
        let present = pagemap::present_pages(self.region.base(), used).unwrap_or(0) << PAGE_SHIFT;
        self.counters
            .unmanaged_bytes
            .set(anon.saturating_sub(present));
        if self.is_near_budget(0) {
            self.arm_from_tick();
        }
    }

    fn arm_from_tick(&self) {
        // The worker's lock comes first in the order, and is let go of at once.
        let uffd = self.workers.take(0).and_then(|worker| worker.uffd.clone());
        let Some(uffd) = uffd else { return };
        // A thread that holds the lock may be asking this thread to arm.
        let Some(_runs) = self.runs.try_lock() else {
            return;
        };
        self.arm(&uffd);
    }

    /// Is more of the budget in compressed pages than there should be?
    pub(crate) fn pool_is_large(&self) -> bool {
        let store = self.layer.store();
        store.can_write_back() && store.ram_bytes().0 > self.pool_target()
    }

    /// Has the log its share of the budget, and can only slots take more? A segment cannot go there, so pages do at once.
    pub(crate) fn prefers_slots(&self) -> bool {
        let store = self.layer.store();
        store.slots().is_open()
            && store.ram_bytes().0 > self.pool_target()
            && !self.device_takes_more()
    }

    fn pool_target(&self) -> u64 {
        let ram = self.budget.ram();
        let managed = ram
            .saturating_sub(self.counters.unmanaged_bytes.get())
            .max(ram / 4);
        managed / 100 * u64::from(self.config.pool_percent)
    }

    /// Gauges that are derived rather than counted.
    pub(crate) fn publish_gauges(&self) {
        let counters = &self.counters;
        self.layer.publish(counters);
        counters.ram_budget_bytes.set(self.budget.ram());
        counters.frame_pages.set(self.frames.present_pages());
        let active: usize = self.queues().map(Victims::active).sum();
        counters.active_blocks.set(active as u64);
        counters
            .second_chance_window_pages
            .set((self.window.runs(self.window_bounds()) * BLOCK_PAGES) as u64);
        counters
            .arena_bytes
            .set(vswap_platform::arena::held_bytes() as u64);
        let store = self.layer.store();
        counters.pool_bytes.set(store.ram_bytes().0);
        let on_devices = store.device_bytes().0 + store.slots().bytes();
        counters.device_bytes.set(on_devices);
        counters.device_peak_bytes.max(on_devices);
        let (totals, slots) = (store.counters(), store.slots().counters());
        counters
            .device_written_bytes
            .set(totals.device_written_bytes.get() + slots.written_bytes.get());
        counters
            .device_read_bytes
            .set(totals.device_read_bytes.get() + slots.read_bytes.get());
        counters
            .device_write_calls
            .set(totals.device_write_calls.get() + slots.write_calls.get());
        counters
            .device_read_calls
            .set(totals.device_read_calls.get() + slots.read_calls.get());
        counters
            .device_errors
            .set(totals.device_errors.get() + slots.device_errors.get());
        counters.cleaned_bytes.set(totals.cleaned_bytes.get());
        counters.cleaned_segments.set(totals.cleaned_segments.get());
        counters.demoted_bytes.set(totals.demoted_bytes.get());
        counters.promoted_bytes.set(totals.promoted_bytes.get());
    }

    /// Brings every gauge up to date, for somebody who asks.
    pub fn refresh_gauges(&self) {
        self.sample();
        self.measure_tables();
        self.publish_gauges();
    }

    /// Copies the counters to where the reporting parent finds them after the end.
    pub fn publish_tree(&self) {
        if let Some(tree) = &self.tree {
            tree.publish(&self.counters, &self.latency);
        }
    }

    /// Asks the kernel what the tables take; not for every tick.
    pub(crate) fn measure_tables(&self) {
        let bytes = self.region.table_bytes()
            + self.queues().map(Victims::table_bytes).sum::<u64>()
            + self.layer.table_bytes() as u64
            + self.layer.store().slots().table_bytes();
        self.counters
            .table_bytes
            .set(bytes.next_multiple_of(PAGE_SIZE as u64));
    }
}
