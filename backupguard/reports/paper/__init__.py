"""The report on paper: PDF/A-3, made in a process of its own; its annexes, each a file of its own."""
