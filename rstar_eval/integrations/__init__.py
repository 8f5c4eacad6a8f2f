"""What connects the project to other harnesses. Each module needs the extra that its head names."""
