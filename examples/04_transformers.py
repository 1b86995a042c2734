"""A rule inside `model.generate` of transformers: as a processor for batches and beams, or as genctl's own loop.

python examples/04_transformers.py            # a tiny random model: the rule holds, the words are noise
python examples/04_transformers.py --real     # the packaged model
"""

import sys

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

import genctl

logging.set_verbosity_error()


def tiny() -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """A random model over single bytes, with its tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({"<eos>": 0, **{c: i + 1 for i, c in enumerate(alphabet)}}, []))
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>", pad_token="<eos>")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=257, eos_token_id=0, bos_token_id=0, pad_token_id=0, **sizes)
    return LlamaForCausalLM(config).eval(), tokenizer


if "--real" in sys.argv:
    backend = genctl.load().language_model
    model, tokenizer = backend.model, backend.tokenizer
else:
    model, tokenizer = tiny()
tokenizer.padding_side = "left"

date = genctl.processor(genctl.regex("[0-9]{4}-[0-9]{2}-[0-9]{2}"), tokenizer)
inputs = tokenizer(["The date is ", "It ended on "], return_tensors="pt", padding=True)
for how in ({"do_sample": True, "top_k": 0}, {"num_beams": 3, "do_sample": False}):
    ids = model.generate(**inputs, logits_processor=[date], max_new_tokens=16, **how)
    print(how, tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True))

loop = genctl.custom_generate(genctl.regex("[0-9]{4}-[0-9]{2}-[0-9]{2}"), tokenizer, num_particles=4, seed=0)
out = model.generate(
    **inputs, custom_generate=loop, do_sample=True, top_k=0, max_new_tokens=16, return_dict_in_generate=True
)
texts = tokenizer.batch_decode(out.sequences[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
print("weighted particles", texts, [round(x, 2) for x in out.log_evidence.tolist()])
