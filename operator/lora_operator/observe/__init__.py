"""What is there: what a pod says about itself (pure), and the operator's own view of pods and engines.
Nothing in here changes anything outside of the process."""
