//! For tests of this floor and for the fuzzer: lives of a layer told as bytes, with an oracle that knows what must come of
//! each operation. Any bytes are a life, so a fuzzer may change them as it likes; the same bytes are always the same life.

mod devices;
mod failing;
mod life;
mod oracle;
mod payers;
mod script;

pub use life::{Tally, live};
