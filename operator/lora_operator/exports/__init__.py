"""What routers and clients that know nothing of LoraEndpoints can read, made of the routing table: Services with
EndpointSlices for each adapter, and ConfigMaps of adapters by base model. Off unless it is asked for."""
