"""SpanBERT: BERT without its second sentence; its files name no head. One case has the vocabulary head's own table."""

from tests.parity.cases.bert import BERT
from tests.parity.cases.case import Case

CASES = {
    "spanbert": Case("bert", "BertConfig", {**BERT, "type_vocab_size": 1, "hidden_act": "gelu_new"}),
    "bert-untied": Case("bert", "BertConfig", {**BERT, "tie_word_embeddings": False}),
    "xlm-roberta": Case("bert", "XLMRobertaConfig", {**BERT, "type_vocab_size": 1}, left_padding=False),
}
