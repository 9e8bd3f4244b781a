"""Checks what schemas cannot: that names, ports, settings and metrics in the deployment files fit each other and the program."""
