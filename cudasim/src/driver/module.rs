//! Modules, functions and launches.

use super::{
    Device, Handle, ILLEGAL_ADDRESS, INVALID_IMAGE, INVALID_PTX, INVALID_VALUE, LAUNCH_FAILED, MISALIGNED_ADDRESS,
    NO_BINARY_FOR_GPU, NOT_FOUND, NOT_SUPPORTED, SUCCESS, Status, all, entry_points,
};
use crate::machine::launch::{max_shared, per_multiprocessor};
use crate::{Fault, Kernel, Launch, mutate};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::Arc;

/// A module, its text if somebody asked which lines are executed, and those that were.
pub struct Loaded {
    text: Option<String>,
    covered: Vec<(String, u32)>,
}

pub struct Function {
    module: usize,
    kernel: Arc<Kernel>,
    /// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`.
    max_dynamic_shared: usize,
}

/// Dynamic shared memory that a kernel may use without asking.
const STATIC_LIMIT: usize = 48 << 10;

impl Device {
    fn load(&mut self, text: Result<&str, String>, handle: &mut Handle) -> Status {
        let loaded = text.map_err(|e| (INVALID_IMAGE, e)).and_then(|text| {
            let mutated = self.settings.mutant.as_ref().map(|file| mutate::apply(text, file));
            let text = mutated.as_deref().unwrap_or(text);
            let module = self.simulator.load(text).map_err(|e| (INVALID_PTX, e))?;
            let (target, device) = (self.simulator.target(module), self.settings.options.compute_capability);
            if target > device {
                return Err((NO_BINARY_FOR_GPU, format!("PTX for sm_{target} on a device of sm_{device}")));
            }
            let text = self.settings.coverage.as_ref().map(|_| text.to_string());
            self.modules.push(Loaded { text, covered: Vec::new() });
            Ok(module)
        });
        match loaded {
            Ok(module) => {
                *handle = (module + 1) as Handle;
                SUCCESS
            }
            Err((status, message)) => self.fail(status, message),
        }
    }

    pub fn write_coverage(&mut self) {
        let Some(folder) = &self.settings.coverage else { return };
        for module in self.modules.iter().filter(|module| !module.covered.is_empty()) {
            let text = module.text.as_deref().unwrap_or_default();
            if let Err(e) = mutate::write_coverage(folder, text, &module.covered) {
                eprintln!("[cudasim] cannot write to {folder}: {e}");
            }
        }
    }

    /// Launches a function with the parameters that `pointers` point to.
    unsafe fn launch(
        &mut self, function: Handle, launch: Launch, pointers: *const *const u8, stream: Handle,
    ) -> Status {
        let Some(function) = self.functions.get((function as usize).wrapping_sub(1)) else {
            return self.fail(INVALID_VALUE, "no such function");
        };
        let (module, kernel, limit) = (function.module, function.kernel.clone(), function.max_dynamic_shared);
        if launch.dynamic_shared > limit {
            let used = format!("{} bytes of dynamic shared memory, of at most {limit}", launch.dynamic_shared);
            return self.fail(INVALID_VALUE, format!("{}: {used}", kernel.name));
        }
        let mut params = vec![0; kernel.param_bytes];
        for (i, (offset, bytes)) in kernel.params.iter().enumerate() {
            // SAFETY: the caller passes a pointer to each of the kernel's parameters.
            let from = unsafe { std::slice::from_raw_parts(*pointers.add(i), *bytes) };
            params[*offset..offset + bytes].copy_from_slice(from);
        }
        self.enqueue(stream, move |device| device.execute(module, &kernel, &launch, params.clone()))
    }

    fn execute(&mut self, module: usize, kernel: &Kernel, launch: &Launch, params: Vec<u8>) -> Status {
        if self.broken != SUCCESS {
            return self.broken;
        }
        let began = std::time::Instant::now();
        let outcome = match self.simulator.launch(module, kernel, launch, &self.settings.options, params) {
            Ok(outcome) => outcome,
            Err(report) => {
                let status = match report.fault {
                    Fault::OutOfBounds => ILLEGAL_ADDRESS,
                    Fault::Misaligned => MISALIGNED_ADDRESS,
                    Fault::Launch => INVALID_VALUE,
                    _ => LAUNCH_FAILED,
                };
                return self.fail(status, report.to_string());
            }
        };
        if self.settings.coverage.is_some() {
            let executed = kernel.code.iter().zip(&outcome.covered).filter(|(_, covered)| **covered);
            self.modules[module].covered.extend(executed.map(|(i, _)| (kernel.name.clone(), i.ptx_line)));
        }
        if self.settings.options.memory_statistics {
            let (name, Launch { grid, block, .. }, s) = (&kernel.name, launch, &outcome.statistics);
            eprintln!("[cudasim] {name} grid {grid:?} block {block:?}: {s}, {:.1?}", began.elapsed());
        }
        outcome.reports.iter().for_each(|report| eprintln!("[cudasim] {report}"));
        match outcome.reports.first() {
            Some(report) if self.settings.strict => self.fail(LAUNCH_FAILED, report.to_string()),
            _ => SUCCESS,
        }
    }
}

/// `CUlaunchConfig`, and the attributes that it points to.
#[repr(C)]
pub struct LaunchConfig {
    grid: [c_uint; 3],
    block: [c_uint; 3],
    shared: c_uint,
    stream: Handle,
    attributes: *const LaunchAttribute,
    count: c_uint,
}

#[repr(C)]
pub struct LaunchAttribute {
    id: c_int,
    padding: u32,
    value: [u32; 16],
}

const COOPERATIVE: c_int = 2;
const CLUSTER_DIMENSION: c_int = 4;

impl LaunchConfig {
    unsafe fn launch(&self) -> Result<Launch, String> {
        let mut launch = Launch::new(self.grid, self.block);
        launch.dynamic_shared = self.shared as usize;
        for i in 0..self.count as usize {
            // SAFETY: the caller's array has `count` attributes.
            let attribute = unsafe { &*self.attributes.add(i) };
            match attribute.id {
                COOPERATIVE => launch.cooperative = attribute.value[0] != 0,
                CLUSTER_DIMENSION => launch.cluster.copy_from_slice(&attribute.value[..3]),
                id => return Err(format!("launch attribute {id} is not emulated")),
            }
        }
        Ok(launch)
    }
}

unsafe fn name<'a>(text: *const c_char) -> &'a str {
    // SAFETY: a C string of the caller's.
    unsafe { CStr::from_ptr(text) }.to_str().unwrap_or("")
}

entry_points! {
    cuModuleLoadData |device| (module: *mut Handle, image: *const c_char) {
        device.load(Ok(name(image)), &mut *module)
    }
    cuModuleLoad |device| (module: *mut Handle, file: *const c_char) {
        let text = std::fs::read_to_string(name(file));
        device.load(text.as_deref().map_err(|e| e.to_string()), &mut *module)
    }
    cuModuleGetFunction |device| (function: *mut Handle, module: Handle, text: *const c_char) {
        let (module, name) = (module as usize - 1, name(text));
        if !device.simulator.has_kernel(module, name) {
            return device.fail(NOT_FOUND, format!("no kernel {name} in the module"));
        }
        match device.simulator.kernel(module, name) {
            Ok(kernel) => {
                device.functions.push(Function { module, kernel, max_dynamic_shared: STATIC_LIMIT });
                *function = device.functions.len() as Handle;
                SUCCESS
            }
            Err(message) => device.fail(NOT_SUPPORTED, message),
        }
    }
    cuFuncSetAttribute |device| (function: Handle, attribute: c_int, value: c_int) {
        let limit = max_shared(device.settings.options.compute_capability);
        let function = &mut device.functions[function as usize - 1];
        if attribute == 8 {
            if function.kernel.shared_bytes + value as usize > limit {
                return INVALID_VALUE;
            }
            function.max_dynamic_shared = value as usize;
        }
        SUCCESS
    }
    cuFuncGetAttribute |device| (value: *mut c_int, attribute: c_int, function: Handle) {
        let function = &device.functions[function as usize - 1];
        *value = match attribute {
            0 => function.kernel.max_threads.unwrap_or(1024) as c_int,
            1 => function.kernel.shared_bytes as c_int,
            3 => function.kernel.local_bytes as c_int,
            4 => 64, // registers, which PTX does not tell
            8 => function.max_dynamic_shared as c_int,
            _ => 0,
        };
        SUCCESS
    }
    cuOccupancyMaxActiveBlocksPerMultiprocessor |device| (count: *mut c_int, function: Handle, threads: c_int, shared: usize) {
        let kernel = &device.functions[function as usize - 1].kernel;
        *count = per_multiprocessor(kernel, threads.max(1) as usize, shared, &device.settings.options) as c_int;
        SUCCESS
    }
    cuLaunchKernel |device| (
        function: Handle, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint, block_y: c_uint, block_z: c_uint,
        shared: c_uint, stream: Handle, params: *const *const u8, extra: *const *mut c_void
    ) {
        let launch = Launch::new([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        device.launch(function, Launch { dynamic_shared: shared as usize, ..launch }, params, stream)
    }
    cuLaunchCooperativeKernel |device| (
        function: Handle, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint, block_y: c_uint, block_z: c_uint,
        shared: c_uint, stream: Handle, params: *const *const u8
    ) {
        let launch = Launch::new([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        device.launch(function, Launch { dynamic_shared: shared as usize, cooperative: true, ..launch }, params, stream)
    }
    cuLaunchKernelEx |device| (config: *const LaunchConfig, function: Handle, params: *const *const u8, extra: *const *mut c_void) {
        match (*config).launch() {
            Ok(launch) => device.launch(function, launch, params, (*config).stream),
            Err(message) => device.fail(NOT_SUPPORTED, message),
        }
    }
}

all! { SUCCESS; cuModuleUnload }
