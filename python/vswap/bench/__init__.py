"""`vswap bench`: vswap beside the kernel's own swap and memory mapped files, in one run."""
