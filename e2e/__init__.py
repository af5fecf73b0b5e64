"""The whole system on one machine: control plane, pods, engines, faults.

Every part is real where it can be (API server, controllers, HTTP) and says where it is not.
"""
