import { z } from 'zod';
import { listOf } from './list.js';

const MOST_BLOCKS = 100_000;

/** What a conversation is made of. Members that no worker could use (`cache_control`, `citations` of the past) are dropped. */
const text = z.object({ type: z.literal('text'), text: z.string() });

const image = z.object({
  type: z.literal('image'),
  source: z.discriminatedUnion(
    'type',
    [
      z.object({
        type: z.literal('base64'),
        media_type: z.string().regex(/^image\/[a-z0-9.+-]{1,40}$/, 'must be an image type such as image/png'),
        data: z.string().min(1),
      }),
      z.object({ type: z.literal('url'), url: z.url({ protocol: /^https?$/ }) }),
    ],
    { error: 'must be base64 or url: files are not kept here' },
  ),
});

const name = z.string().min(1).max(256);
const toolUse = z.object({
  type: z.literal('tool_use'),
  id: name,
  name,
  input: z.record(z.string(), z.unknown()),
});

/** A text stands for one block of text. */
const blocksOf = <S extends z.ZodType>(block: S) =>
  z.preprocess(
    (value) => (typeof value === 'string' ? [{ type: 'text', text: value }] : value),
    listOf(block, { max: MOST_BLOCKS }),
  );

const toolResult = z.object({
  type: z.literal('tool_result'),
  tool_use_id: name,
  content: blocksOf(
    z.discriminatedUnion('type', [text, image], { error: 'must be text or image: workers read nothing else' }),
  ).optional(),
  is_error: z.boolean().nullish(),
});

const thinking = z.object({ type: z.literal('thinking'), thinking: z.string() });
/** Sealed by whoever thought it; nobody here can read it. */
const redactedThinking = z.object({ type: z.literal('redacted_thinking') });

const userBlock = z.discriminatedUnion('type', [text, image, toolResult], {
  error: 'must be text, image or tool_result: workers read nothing else',
});
const assistantBlock = z.discriminatedUnion('type', [text, thinking, redactedThinking, toolUse], {
  error: 'must be text, thinking, redacted_thinking or tool_use: workers read nothing else',
});

export const systemPrompt = blocksOf(text);

export const turn = z.discriminatedUnion(
  'role',
  [
    z.object({ role: z.literal('user'), content: blocksOf(userBlock) }),
    z.object({ role: z.literal('assistant'), content: blocksOf(assistantBlock) }),
    z.object({ role: z.literal('system'), content: systemPrompt }),
  ],
  { error: 'must be user, assistant or system' },
);

export type Text = z.infer<typeof text>;
export type Image = z.infer<typeof image>;
export type ToolResult = z.infer<typeof toolResult>;
export type UserBlock = z.infer<typeof userBlock>;
export type AssistantBlock = z.infer<typeof assistantBlock>;
export type Turn = z.infer<typeof turn>;
