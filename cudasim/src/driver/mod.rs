//! The CUDA driver API as far as candle and this repository call it, and what candle links of
//! cuBLAS and cuRAND, on a [`Simulator`]. Calls are synchronous: what a stream would do later is
//! done at once, but for what a graph captures.

mod context;
mod events;
mod graphs;
mod libraries;
mod memory;
mod module;

use crate::{Options, Order, Simulator};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{CString, c_char, c_int, c_void};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

pub type Handle = *mut c_void;
/// An address of the device.
pub type Pointer = u64;
/// `CUresult`.
pub type Status = c_int;

pub const SUCCESS: Status = 0;
pub const INVALID_VALUE: Status = 1;
pub const INVALID_DEVICE: Status = 101;
pub const INVALID_IMAGE: Status = 200;
pub const NO_BINARY_FOR_GPU: Status = 209;
pub const INVALID_PTX: Status = 218;
pub const INVALID_HANDLE: Status = 400;
pub const ILLEGAL_STATE: Status = 401;
pub const NOT_FOUND: Status = 500;
pub const ILLEGAL_ADDRESS: Status = 700;
pub const MISALIGNED_ADDRESS: Status = 716;
pub const LAUNCH_FAILED: Status = 719;
pub const NOT_SUPPORTED: Status = 801;
pub const CAPTURE_UNSUPPORTED: Status = 900;
pub const CAPTURE_INVALIDATED: Status = 901;
pub const CAPTURE_ISOLATION: Status = 905;
pub const CAPTURED_EVENT: Status = 907;

/// The settings of the environment; the README lists the variables.
pub struct Settings {
    pub options: Options,
    /// Races and uninitialised reads fail the launch; otherwise they are only printed.
    pub strict: bool,
    pub coverage: Option<String>,
    pub mutant: Option<String>,
}

impl Settings {
    fn from_environment() -> Self {
        let text = |name: &str| std::env::var(name).ok();
        let number = |name: &str, default| text(name).and_then(|v| v.parse().ok()).unwrap_or(default);
        let options = Options {
            order: Order::ALL[number("CUDASIM_ORDER", 0).min(2) as usize],
            seed: number("CUDASIM_SEED", 1),
            compute_capability: number("CUDASIM_SM", 90) as u32,
            checks: number("CUDASIM_CHECK", 1) != 0,
            memory_statistics: text("CUDASIM_STATS").is_some(),
            budget: number("CUDASIM_BUDGET", Options::default().budget),
        };
        let strict = number("CUDASIM_STRICT", 1) != 0;
        let (coverage, mutant) = (text("CUDASIM_COVERAGE"), text("CUDASIM_MUTANT"));
        Self { options, strict, coverage, mutant }
    }
}

/// The one device, and everything that handles point to.
pub struct Device {
    pub simulator: Simulator,
    pub settings: Settings,
    /// A fault leaves the context unusable, as it does on hardware.
    pub broken: Status,
    pub modules: Vec<module::Loaded>,
    pub functions: Vec<module::Function>,
    pub random: u64,
    pub events: HashMap<usize, events::Event>,
    pub captures: Vec<graphs::Capture>,
    pub graphs: HashMap<usize, Arc<graphs::Graph>>,
    pub executables: HashMap<usize, graphs::Executable>,
    /// The last handle given out to a stream, event, capture or graph: none is another's, or used twice.
    last_handle: usize,
}

/// Waits for its turn: the tests of a process share the device.
pub fn device() -> MutexGuard<'static, Device> {
    static DEVICE: OnceLock<Mutex<Device>> = OnceLock::new();
    let device = DEVICE.get_or_init(|| {
        extern "C" fn at_exit() {
            device().write_coverage();
        }
        unsafe extern "C" {
            fn atexit(f: extern "C" fn()) -> c_int;
        }
        // SAFETY: a C function that keeps a pointer to another, which lives as long as the process.
        unsafe { atexit(at_exit) };
        Mutex::new(Device {
            simulator: Simulator::default(),
            settings: Settings::from_environment(),
            broken: SUCCESS,
            modules: Vec::new(),
            functions: Vec::new(),
            random: 0,
            events: HashMap::new(),
            captures: Vec::new(),
            graphs: HashMap::new(),
            executables: HashMap::new(),
            last_handle: 0x10000,
        })
    });
    device.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

thread_local! {
    /// The text of `cuGetErrorString` for the last error of the thread.
    static MESSAGE: RefCell<(Status, CString)> = RefCell::default();
}

impl Device {
    pub fn new_handle(&mut self) -> usize {
        self.last_handle += 1;
        self.last_handle
    }

    /// Records and prints an error.
    pub fn fail(&mut self, status: Status, message: impl Into<String>) -> Status {
        let message = message.into();
        eprintln!("[cudasim] {message}");
        if matches!(status, ILLEGAL_ADDRESS | MISALIGNED_ADDRESS | LAUNCH_FAILED) {
            self.broken = status;
        }
        let text = CString::new(message.replace('\0', " ")).unwrap_or_default();
        MESSAGE.set((status, text));
        status
    }

    /// The status of an operation on memory.
    pub fn check(&mut self, result: Result<(), String>) -> Status {
        match result {
            _ if self.broken != SUCCESS => self.broken,
            Ok(()) => SUCCESS,
            Err(message) => self.fail(INVALID_VALUE, message),
        }
    }
}

/// Entry points of the C API: each locks the device, and gives it to the body.
macro_rules! entry_points {
    ($($name:ident |$device:ident| ($($argument:ident : $ty:ty),*) $body:block)*) => { $(
        /// # Safety
        ///
        /// Pointers must be valid, or null where the C API allows it.
        #[unsafe(no_mangle)]
        #[allow(non_snake_case, unused_unsafe, unused_variables, clippy::too_many_arguments)]
        pub unsafe extern "C" fn $name($($argument: $ty),*) -> $crate::driver::Status {
            let mut guard = $crate::driver::device();
            let $device = &mut *guard;
            // SAFETY: the caller's pointers are as asked for above.
            unsafe { $body }
        }
    )* };
}
use entry_points;

/// Entry points that answer the same whatever they are given.
macro_rules! all {
    ($status:expr; $($name:ident)*) => { $(
        #[unsafe(no_mangle)]
        #[allow(non_snake_case)]
        pub extern "C" fn $name() -> $crate::driver::Status {
            $status
        }
    )* };
}
use all;

entry_points! {
    cuGetErrorString |device| (status: Status, text: *mut *const c_char) {
        let message = MESSAGE.with_borrow(|(of, message)| if *of == status { message.clone() } else { CString::default() });
        // The caller keeps the pointer for as long as it likes.
        *text = message.into_raw();
        SUCCESS
    }
}
