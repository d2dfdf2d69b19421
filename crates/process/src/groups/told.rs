//! What is told about groups: charges, limits and events, as JSON.

use vswap_space::GroupId;
use vswap_store::{Resource, SEGMENT_BYTES};
use vswap_units::PAGE_SHIFT;

use super::Held;
use super::named::Named;
use crate::control::Json;
use crate::engine::Engine;

const SEGMENT: u64 = SEGMENT_BYTES as u64;

impl Engine {
    /// Every group of the space, parents before children, the root first. A limit
    /// that is not set is left out.
    pub fn told_groups(&self) -> Json {
        let named = self.groups.lock_names().clone();
        let mut list = vec![Json::Object(self.told_root())];
        let mut paths: Vec<_> = named.iter().map(|at| (names_of(&named, at), at)).collect();
        paths.sort_by(|(a, _), (b, _)| a.cmp(b));
        let groups = paths.iter();
        let groups = groups.map(|(names, at)| self.told_group(at, names.join("/")));
        list.extend(groups.map(Json::Object));
        Json::List(list)
    }

    fn told_root(&self) -> Vec<(&'static str, Json)> {
        let counters = &self.counters;
        let frames = self.frames.present_pages();
        let mut told = vec![
            ("id", Json::number(0)),
            ("parent", Json::number(0)),
            ("name", Json::text("")),
            ("path", Json::text("")),
            ("ram_bytes", Json::number(self.held())),
            (
                "resident_pages",
                Json::number(counters.resident_pages.get()),
            ),
            ("cached_pages", Json::number(frames)),
            ("ram_max_bytes", Json::number(self.ram())),
        ];
        let (blocks, bytes) = self.live();
        told.push(("live_blocks", Json::number(blocks)));
        told.push(("live_bytes", Json::number(bytes)));
        self.tell_store(GroupId::ROOT, &mut told);
        told
    }

    fn told_group(&self, at: &Named, path: String) -> Vec<(&'static str, Json)> {
        let group = at.group;
        let mut told = vec![
            ("id", Json::number(at.key)),
            ("parent", Json::number(at.parent)),
            ("name", Json::text(at.name.as_str())),
            ("path", Json::text(path)),
            ("ram_bytes", Json::number(self.group_ram(group))),
        ];
        let pages = |what| Json::number(self.groups.pages(group, what));
        told.push(("resident_pages", pages(Held::Resident)));
        told.push(("cached_pages", pages(Held::Cached)));
        if let Some(most) = self.groups.ram_max(group) {
            told.push(("ram_max_bytes", Json::number(most)));
        }
        let (blocks, bytes) = self.groups.live(group);
        told.push(("live_blocks", Json::number(blocks)));
        told.push(("live_bytes", Json::number(bytes)));
        self.tell_store(group, &mut told);
        let events = self.group_events(group);
        told.push(("ram_max_events", Json::number(events.0)));
        told.push(("ram_fail_events", Json::number(events.1)));
        told.push(("full", Json::Flag(self.is_group_full(group))));
        told.push(("stuck", Json::Flag(self.is_stuck(group))));
        told.push(("writeback", Json::Flag(at.rules.writeback)));
        let devices = at.rules.devices.iter().map(Json::text);
        told.push(("devices", Json::List(devices.collect())));
        told
    }

    fn tell_store(&self, group: GroupId, told: &mut Vec<(&'static str, Json)>) {
        let Some(charge) = self.layer.charge(group) else {
            return;
        };
        told.push(("swapped_pages", Json::number(charge.all_entries)));
        let swapped_bytes = charge.all_entries << PAGE_SHIFT;
        told.push(("swapped_bytes", Json::number(swapped_bytes)));
        told.push(("compressed_bytes", Json::number(charge.compressed_bytes())));
        told.push(("device_bytes", Json::number(charge.device_bytes())));
        let own = u64::from(charge.store.own_ram) * SEGMENT;
        told.push(("own_compressed_bytes", Json::number(own)));
        let own = u64::from(charge.store.own_device) * SEGMENT;
        told.push(("own_device_bytes", Json::number(own)));
        told.push((
            "zswap_max_events",
            Json::number(charge.store.ram_max_events),
        ));
        told.push((
            "swap_max_events",
            Json::number(charge.store.device_max_events),
        ));
        told.push(("zswap_fail_events", Json::number(charge.store.fail_events)));
        let tree = self.layer.store().groups();
        for (name, what) in [
            ("zswap_max_bytes", Resource::Ram),
            ("swap_max_bytes", Resource::Device),
        ] {
            if let Some(limit) = tree.limit(group, what) {
                told.push((name, Json::number(u64::from(limit) * SEGMENT)));
            }
        }
    }
}

/// The names from the top down to a group: its path, and its place among all.
fn names_of<'a>(named: &'a [Named], at: &'a Named) -> Vec<&'a str> {
    let above = |at: &&Named| named.iter().find(|other| other.key == at.parent);
    let names = std::iter::successors(Some(at), above).map(|at| at.name.as_str());
    let mut names: Vec<&str> = names.collect();
    names.reverse();
    names
}
