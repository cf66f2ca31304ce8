"""The console scripts `proxy-server` and `proxy-agent`: konnectivity's flags, our roles."""
