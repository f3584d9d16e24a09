"""A cluster: workers in network namespaces of their own, a fleet that is interrupted, and load at the limit."""
