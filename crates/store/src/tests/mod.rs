//! Tests of the store as a whole.
mod basic;
mod cleaning;
mod directory;
mod discarding;
mod failing;
mod forking;
mod groups;
mod leftovers;
mod moving;
mod speed;
mod stress;
mod swapoff;
mod tiers;
