"""Many runs: which, by whom, side by side, and what came of them."""
