"""What a patch series changes that user space can see (`vmadiff patch`).

changed   which lines and functions the series changes, and which blocks of the kernel those are
pair      the two kernels, built or given
judge     a finding on the one kernel, held against the other
result    all that was found out, as text and as data
command   one after the other
"""
