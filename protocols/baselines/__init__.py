"""What SecMoE is compared with, run and priced by the same machine."""
