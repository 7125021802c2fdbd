"""Links between processes of one machine: named columns through shared memory, and a socket that says where they are.

Knows no engine and no request. Both ends are processes of one server.
"""
