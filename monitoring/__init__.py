"""What is measured: NVML, cgroups and the machine on every node; rows as Prometheus metrics on the api."""
