//! Executes the PTX that nvcc writes, on the CPU and checked: accesses out of bounds, misaligned or
//! of bytes that nothing wrote, races, barriers that not all threads reach. [`Simulator`] does it
//! for one kernel at a time; built as a shared object, the crate is a CUDA driver that does it for
//! programs that know nothing of it. The README says how.
//!
//! Numbers such as 9.7.1 are sections of the
//! [PTX ISA manual](https://docs.nvidia.com/cuda/parallel-thread-execution/), version 9.0.

mod decode;
mod driver;
mod isa;
mod machine;
pub mod mutate;
pub mod ptx;

pub use decode::Kernel;
pub use machine::launch::{Launch, MULTIPROCESSORS, Options, Order, Outcome};
pub use machine::memory::Memory;
pub use machine::report::{Fault, Report};
pub use machine::statistics::{Requests, Statistics};

use machine::Machine;
use std::collections::HashMap;
use std::sync::Arc;

struct Module {
    text: ptx::Module,
    /// The address of each variable.
    variables: Vec<u64>,
    kernels: HashMap<String, Arc<Kernel>>,
}

/// A device: its memory, and the modules loaded.
#[derive(Default)]
pub struct Simulator {
    pub memory: Memory,
    modules: Vec<Module>,
}

/// Bytes of a cooperative launch's workspace: its size, then the barrier.
const WORKSPACE: usize = 64;

impl Simulator {
    /// Loads PTX text; the number names the module from then on.
    pub fn load(&mut self, source: &str) -> Result<usize, String> {
        let text = ptx::Module::parse(source)?;
        let mut variables = Vec::new();
        for variable in &text.variables {
            let address = self.memory.allocate(variable.declaration.bytes.max(1));
            self.memory.write(address, &variable.init)?;
            variables.push(address);
        }
        self.modules.push(Module { text, variables, kernels: HashMap::new() });
        Ok(self.modules.len() - 1)
    }

    /// The `.target` of a module, 90 for `sm_90`.
    pub fn target(&self, module: usize) -> u32 {
        self.modules[module].text.target
    }

    pub fn has_kernel(&self, module: usize, name: &str) -> bool {
        self.modules[module].text.functions.get(name).is_some_and(|f| f.is_entry)
    }

    /// Decodes a kernel. The error names the instruction that is not supported.
    pub fn kernel(&mut self, module: usize, name: &str) -> Result<Arc<Kernel>, String> {
        let module = &mut self.modules[module];
        if let Some(kernel) = module.kernels.get(name) {
            return Ok(kernel.clone());
        }
        let kernel = Arc::new(Kernel::decode(&module.text, name)?);
        module.kernels.insert(name.to_string(), kernel.clone());
        Ok(kernel)
    }

    /// Runs a kernel of `module` to its end. `params` are laid out as [`Kernel::params`] says. An
    /// error is what the launch could not survive.
    pub fn launch(
        &mut self, module: usize, kernel: &Kernel, launch: &Launch, options: &Options, params: Vec<u8>,
    ) -> Result<Outcome, Report> {
        machine::launch::check(kernel, launch, options)?;
        let failed = |detail| Report::launch(&kernel.name, detail);
        let mut workspace = 0;
        if launch.cooperative {
            workspace = self.memory.allocate(WORKSPACE);
            self.memory.write(workspace, &[0; WORKSPACE]).map_err(failed)?;
        }
        let variables = &self.modules[module].variables;
        let machine = Machine::new(kernel, &mut self.memory, variables, launch, options, params, workspace);
        let outcome = machine.run();
        if launch.cooperative {
            self.memory.free(workspace).map_err(failed)?;
        }
        outcome
    }

    /// The last thread that wrote a byte of global memory, if the kernel did: to find the origin of a
    /// wrong value.
    pub fn writer(&self, kernel: &Kernel, launch: &Launch, address: u64) -> Option<Report> {
        let (i, offset) = self.memory.locate(address, 1).ok()?;
        let (who, pc, _) = self.memory.allocations[i].region.shadow.writer(offset)?;
        let detail = format!("wrote the value at offset {offset} of its allocation");
        Some(Report::new(Fault::Value, kernel, launch, who, pc, detail))
    }
}
