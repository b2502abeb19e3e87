"""For people's own tests: what a mesh's configuration makes of a call, offline or in a real mesh.

    def test_jason_reads_v2(ostria_mesh):
        found = ostria_mesh.call("productpage", "http://reviews:9080/", headers={"end-user": "jason"})
        assert found.subsets == {"v2": 1.0}

`plugin` is what pytest loads; it imports nothing but pytest until a fixture is asked for. `offline` answers out of
files, `live` starts one mesh for a worker and makes the calls.
"""
