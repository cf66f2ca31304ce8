"""What proxy-server and proxy-agent ask a Kubernetes API: leases and token reviews."""
