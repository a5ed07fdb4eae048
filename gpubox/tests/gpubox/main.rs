//! The program on invented runs: no figure here is a measured one.

mod archive;
mod figures;
mod invented;
mod report;
mod summary;
