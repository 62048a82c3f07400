"""The figures of the README and of the reproduction page: what measures them, where they are kept, their tables."""
