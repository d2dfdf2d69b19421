"""Look at running vswap programs from outside, without their help."""
