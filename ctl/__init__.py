"""tunnelctl: the command line of tunneld; starts without Trio."""
