"""Who a workload is: SPIFFE names, the tokens that prove them, and the certificates that carry them.

    token --TokenReviewer--> TokenIdentity --spiffe_id--> SpiffeId
    SpiffeId + CSR + Authority + now --issue--> a certificate, renewed at half of its life

Keys are made where they are used and never travel. This room knows nothing of xDS; which port it answers on, and
who writes its roots into each namespace, is decided above it. Import its modules: some of them load cryptography
and gRPC, and `rotation` must stay free of both.
"""
