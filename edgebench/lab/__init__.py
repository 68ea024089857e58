"""A lab: a server and the machines that have joined it. How one gets in, how the two speak, and who is thrown out.

It carries orders, reports and files, and knows nothing of what they are about.
"""
