//! Reports of faults: the kind, kernel, block, thread and source line.

use super::launch::Launch;
use crate::decode::Kernel;
use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fault {
    /// Outside every allocation, or of a variable.
    OutOfBounds,
    Misaligned,
    /// Read before anything was written.
    Uninitialized,
    Race,
    /// Barriers and shuffles that not all threads reach as they must.
    Synchronization,
    Deadlock,
    Trap,
    /// A value that a test found wrong, and who wrote it.
    Value,
    /// The launch itself asks for what the device does not have.
    Launch,
}

#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    pub fault: Fault,
    pub kernel: String,
    pub block: [u32; 3],
    pub thread: [u32; 3],
    /// The source file and line, where the PTX names them (`-lineinfo`).
    pub source: Option<(String, u32)>,
    /// 0 for the launch itself.
    pub ptx_line: u32,
    pub detail: String,
}

impl Report {
    /// A report about thread `who` at instruction `pc`.
    pub fn new(fault: Fault, kernel: &Kernel, launch: &Launch, who: u32, pc: u32, detail: String) -> Report {
        let (block, thread) = launch.thread(who);
        let (source, ptx_line) = (kernel.source(pc), kernel.code[pc as usize].ptx_line);
        Report { fault, kernel: kernel.name.clone(), block, thread, source, ptx_line, detail }
    }

    pub fn launch(kernel: &str, detail: String) -> Report {
        let (fault, kernel, nowhere) = (Fault::Launch, kernel.to_string(), [0; 3]);
        Report { fault, kernel, block: nowhere, thread: nowhere, source: None, ptx_line: 0, detail }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:?}: {}; in {}", self.fault, self.detail, self.kernel)?;
        if self.fault == Fault::Launch {
            return Ok(());
        }
        let triple = |[x, y, z]: [u32; 3]| format!("({x},{y},{z})");
        write!(f, " block {} thread {}", triple(self.block), triple(self.thread))?;
        if let Some((file, line)) = &self.source {
            write!(f, " at {}:{line}", file.rsplit('/').next().unwrap_or(file))?;
        }
        write!(f, " (PTX line {})", self.ptx_line)
    }
}
