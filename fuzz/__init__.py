"""Making, changing, comparing and minimizing programs; imports abi, model and kernel_bridge."""
