"""The command line `brewline`: what runs Brewline on this machine, and looks into it."""
