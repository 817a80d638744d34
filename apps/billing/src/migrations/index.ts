import type { MigrationObject } from '@mikro-orm/core';
import { GAP_MIGRATIONS, INTAKE_MIGRATIONS, MESSAGING_MIGRATIONS } from '@sluice/event-store';
import { AddAudio } from './audio.js';
import { WatchBalances } from './balance-watch.js';
import { CreateCharges } from './charges.js';
import { CreateKeySpend } from './key-spend.js';
import { CreateLedger } from './ledger.js';
import { CreateCreditLots } from './lots.js';
import { CreatePayments } from './payments.js';
import { CreatePrices } from './prices.js';
import { CreateStatements } from './statements.js';
import { OrderTransactions } from './transaction-order.js';
import { CreatePools } from './pools.js';
import { CreateSubscriptions } from './subscriptions.js';
import { IndexTransactionsByRequest } from './transactions-by-request.js';

// The names are what the database remembers: never change one, never reorder, append at the end.
export const MIGRATIONS: readonly MigrationObject[] = [
  ...MESSAGING_MIGRATIONS,
  ...INTAKE_MIGRATIONS,
  { name: 'billing-001-prices', class: CreatePrices },
  { name: 'billing-002-ledger', class: CreateLedger },
  { name: 'billing-003-charges', class: CreateCharges },
  { name: 'billing-004-key-spend', class: CreateKeySpend },
  { name: 'billing-005-audio', class: AddAudio },
  { name: 'billing-006-transactions-by-request', class: IndexTransactionsByRequest },
  ...GAP_MIGRATIONS,
  { name: 'billing-020-lots', class: CreateCreditLots },
  { name: 'billing-021-transaction-order', class: OrderTransactions },
  { name: 'billing-022-statements', class: CreateStatements },
  { name: 'billing-040-pools', class: CreatePools },
  { name: 'billing-041-subscriptions', class: CreateSubscriptions },
  { name: 'billing-030-balance-watch', class: WatchBalances },
  { name: 'billing-031-payments', class: CreatePayments },
];
