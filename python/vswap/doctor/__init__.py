"""What this kernel, container and machine allow vswap to do."""
