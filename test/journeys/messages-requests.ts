// What the journey of Messages asks, and how it looks at what it is told.
import type Anthropic from '@anthropic-ai/sdk';

export const asked = (model: string, content: string, max_tokens = 400) => ({
  model,
  max_tokens,
  messages: [{ role: 'user' as const, content }],
});

const tool = (name: string) => ({
  name,
  description: `Look at the ${name}.`,
  input_schema: { type: 'object' as const, properties: { city: { type: 'string' }, days: { type: 'integer' } } },
});

/** The simulated model calls the tools that are named. */
export const askedWithTools = (model: string, content = 'Look at the weather and the camera.') => ({
  ...asked(model, content),
  tools: [tool('weather'), tool('camera')],
});

/** A message but for its name and the SDK's own; as JSON, since the SDK reads a tool's input when it is looked at. */
export const said = (message: Anthropic.Message) => ({
  ...(JSON.parse(JSON.stringify(message)) as Anthropic.Message),
  id: undefined,
  parsed_output: undefined,
});
