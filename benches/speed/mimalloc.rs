//! The benchmark `speed` with an allocator that keeps freed memory: pages of large results are then
//! not cleared anew by the kernel on every call.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[path = "main.rs"]
mod speed;

fn main() -> anyhow::Result<()> {
    speed::main()
}
