"""What happens before and after a command runs under vswap."""
