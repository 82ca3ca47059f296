"""The student trained with every tenth label, for as many epochs as the others and on the views of the store."""
_base_ = 'labels_all.py'

train_dataloader = dict(dataset=dict(indices=list(range(0, 7500, 10))))
