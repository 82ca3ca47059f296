"""Look into a store of teacher logits, and look after it.

The same as ``mmtinyvit store``.

    python tools/logit_store.py plan configs/teachers/clip_vit_l14_in21k.py CHECKPOINT
    python tools/logit_store.py info data/in21k_logits
    python tools/logit_store.py verify data/in21k_logits
    python tools/logit_store.py verify data/in21k_logits --teacher configs/teachers/clip_vit_l14_in21k.py --checkpoint T
    python tools/logit_store.py show data/in21k_logits n01440764/n01440764_18.JPEG --classes classes.txt
    python tools/logit_store.py stats data/in21k_logits --config configs/tinyvit/distill_in21k.py --out stats.png
    python tools/logit_store.py clean data/in21k_logits --config configs/tinyvit/distill_in21k.py --out kept.txt
    python tools/logit_store.py report data/in21k_logits --config configs/tinyvit/distill_in21k.py --out report.html
    python tools/logit_store.py correlation data/in21k_logits STUDENT.pth --config configs/tinyvit/distill_in21k.py
    python tools/logit_store.py gallery --config configs/tinyvit/distill_in21k.py
    python tools/logit_store.py gallery data/in21k_logits --config configs/tinyvit/distill_in21k.py --hardest
    python tools/logit_store.py repair data/in21k_logits --yes
    python tools/logit_store.py copy data/in21k_logits s3://bucket/in21k_logits --views 0:10
    python tools/logit_store.py merge views_0_to_44 views_45_to_89 --out data/in21k_logits
    python tools/logit_store.py reshard data/in21k_logits --samples-per-shard 16384 --out data/in21k_logits_small
    python tools/logit_store.py import-cream teacher_logits --keys samples.txt --num-classes 21841 --out data/imported

With ``--json``, each subcommand prints one JSON object for machines.
"""
from mmtinyvit.cli.command import run_command
from mmtinyvit.cli.store import ON_INTERRUPT, main

if __name__ == '__main__':
    run_command(main, ON_INTERRUPT)
