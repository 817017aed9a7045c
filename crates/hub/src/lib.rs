//! Models by name: a catalog of what is known, a cache of what is here, and, with the feature `network`, the way from a
//! hub into the cache.
//!
//! The cache is Hugging Face's own (`~/.cache/huggingface/hub`), so what other programs fetched is found, and what is
//! fetched here is found by them. This crate knows names, files, bytes and fingerprints; what is inside of a model file is
//! the engine's to say. It opens a connection in [`Hub`] alone, and that when it is asked to.
#![forbid(unsafe_code)]

mod cache;
mod catalog;
mod error;
mod name;
#[cfg(feature = "network")]
mod network;
mod quant;

pub use cache::{Cache, Installed, Removed};
pub use catalog::{Calls, Catalog, Entry, Pinned, Use};
pub use error::{Error, Result};
pub use name::{RepoId, Wanted, key};
#[cfg(feature = "network")]
pub use network::{Event, Fetched, Hub, Listing, Options, Pins, Remote, Source};
pub use quant::{DEFAULT, FileSet, Part, label, sets};
