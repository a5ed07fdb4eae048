//! What went wrong, where: kernel, block, thread, source line.

use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fault {
    /// Outside every allocation, or of a variable.
    OutOfBounds,
    Misaligned,
    /// Read before anything was written.
    Uninitialized,
    Race,
    /// Barriers, shuffles and votes that not all threads reach as they must.
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
    pub ptx_line: u32,
    pub detail: String,
}

impl Report {
    pub fn launch(kernel: &str, detail: String) -> Report {
        Report {
            fault: Fault::Launch,
            kernel: kernel.to_string(),
            block: [0; 3],
            thread: [0; 3],
            source: None,
            ptx_line: 0,
            detail,
        }
    }

    /// Whether the launch cannot go on: what follows would be wrong as well.
    pub fn is_fatal(&self) -> bool {
        !matches!(self.fault, Fault::Race | Fault::Uninitialized)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let triple = |[x, y, z]: [u32; 3]| format!("({x},{y},{z})");
        write!(f, "{:?}: {}; in {}", self.fault, self.detail, self.kernel)?;
        if self.fault == Fault::Launch {
            return Ok(());
        }
        write!(f, " block {} thread {}", triple(self.block), triple(self.thread))?;
        if let Some((file, line)) = &self.source {
            let name = file.rsplit('/').next().unwrap_or(file);
            write!(f, " at {name}:{line}")?;
        }
        write!(f, " (PTX line {})", self.ptx_line)
    }
}
