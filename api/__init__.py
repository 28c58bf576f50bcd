"""The ways in: HTTP server and client, command line, configuration."""
