"""HTTP only: who asks, what for, and the answer. It records intent; the scheduler acts."""
