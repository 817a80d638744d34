/** The body of GET /v1/models. @param created Unix seconds: when the worker began to serve them */
export const modelList = (models: readonly string[], maxModelLen: number, created: number) => ({
  object: 'list',
  data: models.map((id) => ({
    id,
    object: 'model',
    created,
    owned_by: 'vllm',
    root: id,
    parent: null,
    max_model_len: maxModelLen,
  })),
});
