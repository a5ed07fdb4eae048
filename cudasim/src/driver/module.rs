//! Modules, functions and launches.

use super::{
    do_nothing, entry_points, Device, Handle, Status, ILLEGAL_ADDRESS, INVALID_IMAGE, INVALID_PTX, INVALID_VALUE,
    LAUNCH_FAILED, MISALIGNED_ADDRESS, NOT_FOUND, NOT_SUPPORTED, NO_BINARY_FOR_GPU, SUCCESS,
};
use crate::machine::launch::max_shared;
use crate::{mutate, Fault, Kernel, Launch};
use std::ffi::{c_char, c_int, c_uint, c_void, CStr};
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
    fn load(&mut self, text: &str) -> Result<usize, (Status, String)> {
        let mutated = self.settings.mutant.as_ref().map(|file| mutate::apply(text, file));
        let text = mutated.as_deref().unwrap_or(text);
        let module = self.simulator.load(text).map_err(|e| (INVALID_PTX, e))?;
        let (target, device) = (self.simulator.target(module), self.settings.options.compute_capability);
        if target > device {
            return Err((NO_BINARY_FOR_GPU, format!("PTX for sm_{target} on a device of sm_{device}")));
        }
        self.modules
            .push(Loaded { text: self.settings.coverage.as_ref().map(|_| text.to_string()), covered: Vec::new() });
        Ok(module)
    }

    pub fn write_coverage(&mut self) {
        let Some(folder) = &self.settings.coverage else {
            return;
        };
        for module in &self.modules {
            if let Some(text) = module.text.as_ref().filter(|_| !module.covered.is_empty()) {
                if let Err(e) = mutate::write_coverage(folder, text, &module.covered) {
                    eprintln!("[cudasim] cannot write to {folder}: {e}");
                }
            }
        }
    }

    /// Launches a function with the parameters that `pointers` point to.
    unsafe fn launch(
        &mut self,
        function: Handle,
        launch: Launch,
        stream: Handle,
        pointers: *const *const u8,
    ) -> Status {
        let index = function as usize;
        let Some(function) = self.functions.get(index.wrapping_sub(1)) else {
            return self.fail(INVALID_VALUE, "no such function");
        };
        if launch.dynamic_shared > function.max_dynamic_shared {
            let (name, limit) = (&function.kernel.name, function.max_dynamic_shared);
            let message =
                format!("{name}: {} bytes of dynamic shared memory, of at most {limit}", launch.dynamic_shared);
            return self.fail(INVALID_VALUE, message);
        }
        let mut params = vec![0; function.kernel.param_bytes];
        for (i, (offset, bytes)) in function.kernel.params.iter().enumerate() {
            // SAFETY: the caller passes a pointer to each of the kernel's parameters.
            let from = unsafe { std::slice::from_raw_parts(*pointers.add(i), *bytes) };
            params[*offset..offset + bytes].copy_from_slice(from);
        }
        self.submit(stream, move |device| device.run(index - 1, &launch, params.clone()))
    }

    fn run(&mut self, function: usize, launch: &Launch, params: Vec<u8>) -> Status {
        if self.broken != SUCCESS {
            return self.broken;
        }
        let Function { module, kernel, .. } = &self.functions[function];
        let (module, kernel) = (*module, kernel.clone());
        let began = std::time::Instant::now();
        let outcome = self.simulator.launch(module, &kernel, launch, &self.settings.options, params);
        let outcome = match outcome {
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
            let lines = kernel.code.iter().zip(&outcome.covered).filter(|(_, covered)| **covered);
            let lines = lines.map(|(i, _)| (kernel.name.clone(), i.ptx_line));
            self.modules[module].covered.extend(lines);
        }
        if self.settings.print_statistics {
            let s = &outcome.statistics;
            eprintln!(
                "[cudasim] {} grid {:?} block {:?}: {} thread instructions, {} of warps, sectors per load {:.2} and store \
                 {:.2}, waves per shared access {:.2}, {} barriers, {:.1?}",
                kernel.name, launch.grid, launch.block, s.thread_instructions, s.warp_instructions,
                s.global_loads.average(), s.global_stores.average(), s.shared.average(), s.barriers, began.elapsed()
            );
        }
        for report in &outcome.reports {
            eprintln!("[cudasim] {report}");
        }
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
                // Hints: ignore, access policy, synchronisation policy, scheduling, streams'
                // serialisation, priority, memory synchronisation domains, carveout.
                0 | 1 | 3 | 5 | 6 | 8 | 9 | 10 | 14 => {}
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
        let loaded = device.load(name(image));
        match loaded {
            Ok(index) => {
                *module = (index + 1) as Handle;
                SUCCESS
            }
            Err((status, message)) => device.fail(status, message),
        }
    }
    cuModuleLoad |device| (module: *mut Handle, file: *const c_char) {
        match std::fs::read_to_string(name(file)).map_err(|e| (INVALID_IMAGE, e.to_string())).and_then(|t| device.load(&t)) {
            Ok(index) => {
                *module = (index + 1) as Handle;
                SUCCESS
            }
            Err((status, message)) => device.fail(status, message),
        }
    }
    cuModuleGetFunction |device| (function: *mut Handle, module: Handle, text: *const c_char) {
        let (module, name) = (module as usize - 1, name(text));
        if !device.simulator.kernel_names(module).any(|n| n == name) {
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
    cuModuleGetGlobal_v2 |device| (address: *mut u64, bytes: *mut usize, module: Handle, text: *const c_char) {
        match device.simulator.variable(module as usize - 1, name(text)) {
            Some((start, size)) => {
                if !address.is_null() {
                    *address = start;
                }
                if !bytes.is_null() {
                    *bytes = size;
                }
                SUCCESS
            }
            None => device.fail(NOT_FOUND, format!("no variable {} in the module", name(text))),
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
        let limit = max_shared(device.settings.options.compute_capability) + 1024;
        let by_shared = limit / (kernel.shared_bytes + shared + 1024);
        *count = (2048 / threads.max(32)).min(by_shared as c_int).min(32);
        SUCCESS
    }
    cuLaunchKernel |device| (
        function: Handle, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint, block_y: c_uint, block_z: c_uint,
        shared: c_uint, stream: Handle, params: *const *const u8, extra: *const *mut c_void
    ) {
        let mut launch = Launch::new([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        launch.dynamic_shared = shared as usize;
        device.launch(function, launch, stream, params)
    }
    cuLaunchCooperativeKernel |device| (
        function: Handle, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint, block_y: c_uint, block_z: c_uint,
        shared: c_uint, stream: Handle, params: *const *const u8
    ) {
        let mut launch = Launch::new([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
        launch.dynamic_shared = shared as usize;
        launch.cooperative = true;
        device.launch(function, launch, stream, params)
    }
    cuLaunchKernelEx |device| (config: *const LaunchConfig, function: Handle, params: *const *const u8, extra: *const *mut c_void) {
        match (*config).launch() {
            Ok(launch) => device.launch(function, launch, (*config).stream, params),
            Err(message) => device.fail(NOT_SUPPORTED, message),
        }
    }
}

do_nothing! { cuModuleUnload cuFuncSetCacheConfig }
