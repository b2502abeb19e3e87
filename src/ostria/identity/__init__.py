"""Who a workload is: SPIFFE names, the tokens that prove them, and the certificates that carry them."""
