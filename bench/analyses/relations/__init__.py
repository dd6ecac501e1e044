"""Do the task positions that NORMAL learns reflect how tasks are related?"""
