//! A library of kernels, and one card through it: the calls of `api.h` made safe.

use super::api::{self, Api, DeviceHandle, GraphHandle, failure};
use crate::{Error, Result, Version};
use std::ffi::{CStr, c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering};

/// The kernels, as one library holds them: those that nvcc made, or their emulation.
#[derive(Clone, Copy)]
pub struct Library(&'static Api);

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Library")
    }
}

impl PartialEq for Library {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl Eq for Library {}

impl Library {
    /// The library that this program was built with, if it was built with the feature `cuda`.
    pub fn linked() -> Option<Self> {
        #[cfg(feature = "cuda")]
        {
            unsafe extern "C" {
                safe fn coder_cuda_api() -> *const Api;
            }
            // SAFETY: the library, built with this crate, gives a table that lives as long as the program.
            Some(unsafe { Self::from_table(coder_cuda_api()) })
        }
        #[cfg(not(feature = "cuda"))]
        None
    }

    /// A library by its table of functions.
    ///
    /// # Safety
    /// `table` points to the `Api` of `api.h`, in the version of this crate, and lives as long as the program.
    pub unsafe fn from_table(table: *const Api) -> Self {
        // SAFETY: the caller's promise.
        let api = unsafe { &*table };
        assert_eq!(api.version, api::VERSION, "library and crate are built from different sources");
        Self(api)
    }

    /// Cards that there are.
    ///
    /// # Errors
    /// [`Error::NoDriver`] and [`Error::DriverTooOld`].
    pub fn count(&self) -> Result<usize> {
        let mut count = 0;
        // SAFETY: `count` is valid for writing.
        let code = unsafe { (self.0.count)(&mut count) };
        if code == failure::DRIVER_TOO_OLD {
            // Which versions these are, opening a card tells.
            Device::open(*self, 0, None)?;
        }
        self.check("count", code, 0)?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// What a card is, without opening it for work.
    ///
    /// # Errors
    /// As [`Cuda::open`](super::Cuda::open).
    pub fn card(&self, index: usize) -> Result<Card> {
        Ok(Device::open(*self, index, None)?.card.clone())
    }

    fn words(&self) -> String {
        // SAFETY: the library gives a string that ends in 0 and lives until this thread's next call.
        let words = unsafe { CStr::from_ptr((self.0.message)()) };
        words.to_string_lossy().into_owned()
    }

    /// What a code that a function returned means. `bytes` is what was to be allocated.
    fn check(&self, what: &'static str, code: c_int, bytes: usize) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        // A failure to open is described by numbers that `Device::open` has; these are for everything else.
        Err(match code {
            failure::NO_DRIVER => Error::NoDriver,
            failure::OUT_OF_MEMORY => Error::OutOfMemory { what, bytes },
            _ => Error::Device { device: "cuda", message: format!("{what}: {}", self.words()) },
        })
    }
}

/// What a card is.
#[derive(Clone, Debug, PartialEq)]
pub struct Card {
    /// Its name.
    pub name: String,
    /// Compute capability.
    pub capability: Version,
    /// Streaming multiprocessors.
    pub multiprocessors: usize,
    /// CUDA version of the driver.
    pub driver: Version,
    /// CUDA version of the runtime in this program.
    pub runtime: Version,
    /// Memory.
    pub total_bytes: u64,
    /// Memory that nobody had allocated when the card was opened.
    pub free_bytes: u64,
    /// Bytes per second that the memory's bus can move; `None` if the driver does not tell.
    pub memory_bytes_per_s: Option<f64>,
}

/// CUDA counts versions as 1000 · major + 10 · minor.
fn version(number: i32) -> Version {
    let number = u32::try_from(number).unwrap_or(0);
    Version { major: number / 1000, minor: number % 1000 / 10 }
}

impl Card {
    fn of(info: &api::DeviceInfo) -> Self {
        let name: Vec<u8> = info.name.iter().take_while(|c| **c != 0).map(|c| *c as u8).collect();
        let part = |n: i32| u32::try_from(n).unwrap_or(0);
        Self {
            name: String::from_utf8_lossy(&name).into_owned(),
            capability: Version { major: part(info.major), minor: part(info.minor) },
            multiprocessors: part(info.multiprocessors) as usize,
            driver: version(info.driver),
            runtime: version(info.runtime),
            total_bytes: info.total_bytes,
            free_bytes: info.free_bytes,
            memory_bytes_per_s: Some(info.memory_bytes_per_s).filter(|b| *b > 0.0),
        }
    }
}

/// One card, open. Everything that is allocated on it holds a reference.
#[derive(Debug)]
pub(super) struct Device {
    library: Library,
    handle: *mut DeviceHandle,
    card: Card,
    /// Bytes that may be allocated, and that are.
    limit: u64,
    used: AtomicU64,
}

// SAFETY: `api.h` promises that its functions may be called from any thread, one at a time for each device or not.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

impl Device {
    pub(super) fn open(library: Library, index: usize, limit: Option<u64>) -> Result<Self> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: all zeros are numbers and characters.
        let mut info: api::DeviceInfo = unsafe { std::mem::zeroed() };
        let number = i32::try_from(index).unwrap_or(i32::MAX);
        // SAFETY: both are valid for writing.
        let code = unsafe { (library.0.open)(number, &mut handle, &mut info) };
        let card = Card::of(&info);
        match code {
            failure::DRIVER_TOO_OLD => {
                return Err(Error::DriverTooOld { found: card.driver, needed: card.runtime });
            }
            failure::NO_DEVICE => {
                return Err(Error::NoDevice { index, found: library.count().unwrap_or(0) });
            }
            failure::OUT_OF_MEMORY => return Err(Error::DeviceFull { index }),
            failure::DEVICE_TOO_OLD => {
                let needed = Version { major: 8, minor: 0 };
                return Err(Error::DeviceTooOld { name: card.name, found: card.capability, needed });
            }
            code => library.check("open", code, 0)?,
        }
        let limit = limit.unwrap_or(u64::MAX).min(card.free_bytes);
        Ok(Self { library, handle, card, limit, used: AtomicU64::new(0) })
    }

    pub(super) fn card(&self) -> &Card {
        &self.card
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// One call of the library on this device.
    pub(super) fn call(
        &self,
        what: &'static str,
        call: impl FnOnce(&Api, *mut DeviceHandle) -> c_int,
    ) -> Result<()> {
        self.library.check(what, call(self.library.0, self.handle), 0)
    }

    /// `bytes` zeroed bytes of the card, within the limit. Of several users at once, none gets more than there is.
    pub(super) fn allocate(&self, what: &'static str, bytes: usize) -> Result<*mut c_void> {
        let room = |used: u64| used.checked_add(bytes as u64).filter(|sum| *sum <= self.limit);
        if self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
            return Err(Error::OutOfMemory { what, bytes });
        }
        let mut memory = std::ptr::null_mut();
        // SAFETY: `memory` is valid for writing.
        let code = unsafe { (self.library.0.allocate)(self.handle, bytes, &mut memory) };
        self.library.check(what, code, bytes).inspect_err(|_| self.forget(bytes))?;
        Ok(memory)
    }

    /// Gives back what `allocate` gave.
    ///
    /// # Safety
    /// `memory` is from `allocate` with `bytes`, and used no more.
    pub(super) unsafe fn release(&self, memory: *mut c_void, bytes: usize) {
        // SAFETY: the caller's promise.
        unsafe { (self.library.0.release)(self.handle, memory) };
        self.forget(bytes);
    }

    fn forget(&self, bytes: usize) {
        self.used.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    /// `bytes` zeroed bytes of the host that the card reads in place: as the host and as the card see them.
    pub(super) fn allocate_host(&self, what: &'static str, bytes: usize) -> Result<[*mut c_void; 2]> {
        let (mut host, mut card) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: both are valid for writing.
        let code = unsafe { (self.library.0.allocate_host)(self.handle, bytes, &mut host, &mut card) };
        self.library.check(what, code, bytes)?;
        Ok([host, card])
    }

    /// Gives back what `allocate_host` gave.
    ///
    /// # Safety
    /// `host` is from `allocate_host`, and used no more.
    pub(super) unsafe fn release_host(&self, host: *mut c_void) {
        // SAFETY: the caller's promise.
        unsafe { (self.library.0.release_host)(self.handle, host) };
    }

    pub(super) fn capture(&self) -> Result<()> {
        // SAFETY: the device is open.
        self.call("capture", |api, d| unsafe { (api.capture)(d) })
    }

    pub(super) fn capture_end(&self) -> Result<Graph> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: `handle` is valid for writing.
        self.call("end of capture", |api, d| unsafe { (api.capture_end)(d, &mut handle) })?;
        Ok(Graph { library: self.library, handle })
    }

    pub(super) fn replay(&self, graph: &Graph) -> Result<()> {
        // SAFETY: the graph was captured on this device; what its operations point to is still allocated, because
        // their operands have just been compared with live ones.
        self.call("replay", |api, d| unsafe { (api.replay)(d, graph.handle) })
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: nobody has a reference any more, so nothing that was allocated is left.
        unsafe { (self.library.0.close)(self.handle) }
    }
}

/// Operations that were captured.
#[derive(Debug)]
pub(super) struct Graph {
    library: Library,
    handle: *mut GraphHandle,
}

// SAFETY: as for `Device`.
unsafe impl Send for Graph {}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: the handle is from `capture_end` and used no more.
        unsafe { (self.library.0.forget)(self.handle) }
    }
}
