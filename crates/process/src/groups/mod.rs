//! Groups of memory: who holds what, and how much each may.
//!
//! A block belongs to one group (`region` keeps a number per block), and a run
//! of a group is whole blocks, so no block has two payers. Charged to a group
//! are the pages of its blocks that are in memory, in their place or in frames;
//! the store charges it for compressed segments and places on devices.
//!
//! **The argument for one queue of victims per group.** Room for a group that is
//! over its own `ram_max` must come from its own pages. In one queue for all
//! they would have to be looked for among everybody's, and putting the others
//! back would spoil their order. With a queue per group a limit costs what the
//! group has, and reclaim for the whole budget takes from the queues in turn, as
//! much from each as it is long: the shares stay as they are.
//! *If this is wrong* (a group of cold pages beside one of hot ones), the hot
//! group loses pages in proportion too; the second chance in the frames brings
//! them back, and limits are there to say what is worth more.
//!
//! `table` counts, `named` has the names and what the program asks (`wanted` reads
//! it, `rules` says which devices), `end` ends one, `room` makes room under a
//! group's limit, `turn` shares reclaim out.

mod end;
mod error;
mod named;
mod room;
mod rules;
mod table;
mod told;
mod turn;
mod wanted;

pub use error::GroupError;
pub use named::GroupKey;
pub(crate) use named::Named;
pub(crate) use table::NamesGuard;
pub use table::{GroupTable, Held};
