"""Servers, clients and reports: speed and memory."""
