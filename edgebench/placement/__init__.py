"""Where jobs should run: the allocation problem, the schedules that solve it, and the policies that find them.

Pure optimisation: what a job takes where is given. Source: Hao et al. 2021, "AI-oriented medical workload allocation
for hierarchical cloud/edge/device computing": jobs with release times and priorities; every machine serves one job at a
time and does not interrupt it; what is to be small is the sum of the jobs' response times, weighted by priority.
"""
