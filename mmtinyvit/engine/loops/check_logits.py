"""CheckLogitsLoop: ask the teacher again about a few records, and compare."""
import numpy as np
from mmengine.runner import BaseLoop, Runner

from mmtinyvit.errors import UserError
from mmtinyvit.registry import LOOPS
from mmtinyvit.store import LogitStore, Record, diff_fingerprints

from ..record_rule import RecordRule
from ..store_check import check_dataset
from ..teacher import Teacher

__all__ = ['CheckLogitsLoop']


def _dense(record: Record, num_classes: int) -> np.ndarray:
    """The recovered targets ``(n, C)``: the top K classes, and the tail spread evenly on the others."""
    others = max(num_classes - record.index.shape[1], 1)
    target = np.repeat(record.tail_mass[:, None].astype(np.float64) / others, num_classes, 1)
    np.put_along_axis(target, record.index.astype(np.int64), np.exp(record.log_prob.astype(np.float64)), 1)
    return target / target.sum(1, keepdims=True)


@LOOPS.register_module()
class CheckLogitsLoop(BaseLoop):
    """Re-run a sample of a store's records; takes the ``test_cfg`` of :class:`SaveLogitsLoop` with another type.

    Args:
        runner: The runner; its model is the teacher.
        dataloader, mixing, keep_mass, sampling: As for saving.
        store: Folder of the store.
        num_records: How many records to compare, spread over samples and views.
        **saving: The other arguments of the saving loop; the store knows them.
    """

    def __init__(self, runner: Runner, dataloader: dict, store: str, num_records: int = 64,
                 mixing: dict | None = None, keep_mass: float | None = None, sampling: dict | None = None,
                 **saving) -> None:
        self._runner = runner
        self.store = LogitStore(store)
        amp = self.store.manifest.fingerprints.get('teacher', {}).get('precision') == 'autocast'
        self.num_records = num_records
        self.batch_size = dataloader['batch_size']
        rule = RecordRule(self.store.topk, keep_mass, sampling)
        self.teacher = Teacher(runner.model, dataloader['dataset'], rule, mixing, amp)

    def run(self) -> dict[str, float]:
        """Compare.

        Returns:
            dict: ``records``, ``mean_kl`` and ``max_kl`` (KL(fresh || stored) of the recovered targets, in nats),
            ``top1_changed`` (records).

        Raises:
            UserError: The store comes from another dataset, pipeline or teacher; says which.
        """
        store, teacher = self.store, self.teacher
        check_dataset(store, teacher.dataset.dataset)
        ours = teacher.fingerprints(self.runner.cfg.get('model', {}))
        lines = [line for part in ('pipeline', 'teacher', 'records')
                 for line in diff_fingerprints(store.manifest.fingerprints.get(part, {}), ours.get(part, {}), part)]
        if lines:
            raise UserError(f"The store {store.root} was not saved with this config (stored != config): "
                            f"{'; '.join(lines)}.")
        views = store.complete_views()
        if not views:
            raise UserError(f'The store {store.root} has no complete view to compare.')
        rng = np.random.RandomState(np.random.PCG64(store.base_seed))
        views = sorted(set(rng.choice(views, min(4, len(views)), replace=False).tolist()))
        kl, changed = [], 0
        for view in views:
            wanted = np.sort(rng.choice(store.num_samples, min(store.num_samples, -(-self.num_records // len(views))),
                                        replace=False))
            for positions, batch in teacher.batches(view, wanted, self.batch_size):
                p, q = (_dense(record, store.num_classes)
                        for record in (teacher.ask(batch), store.read_positions(view, positions)))
                kl.append((p * (np.log(np.maximum(p, 1e-300)) - np.log(np.maximum(q, 1e-12)))).sum(1))
                changed += int((p.argmax(1) != q.argmax(1)).sum())
        kl = np.concatenate(kl)
        return dict(records=len(kl), mean_kl=float(kl.mean()), max_kl=float(kl.max()), top1_changed=changed)
