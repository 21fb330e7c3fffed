--- transcript.lua: conversations as data. Pure: no buffer, no window, no engine.

local util = require('gemma.util')

local M = {}

---@class (exact) gemma.chat.Turn
---@field role 'user'|'model'
---@field text string what the model gets, or what it wrote
---@field parts gemma.Part[]? of a user: pictures and sounds, before the text
---@field shown string[]? of a user: what stands for the turn in a transcript
---@field thought string? of the model; never given back to it

-- C0 controls but tab and newline; C1 controls (U+0080 to U+009F), which some terminals obey; what changes
-- the order in which text is seen (U+202A to U+202E, U+2066 to U+2069), so that code looks like what it is.
local UNPRINTABLE =
  { '[%z\1-\8\11-\31\127]', '\194[\128-\159]', '\226\128[\170-\174]', '\226\129[\166-\169]' }

--- Text for a buffer: nothing that is not what it looks like, whatever the model wrote.
---@param s string
---@return string
function M.printable(s)
  for _, pattern in ipairs(UNPRINTABLE) do
    s = s:gsub(pattern, '')
  end
  return s
end

--- The same on one line.
---@param s string
---@return string
function M.one_line(s)
  return (M.printable(s):gsub('[\n\t]', ' '))
end

--- The line that stands for an attachment.
---@param a gemma.Attachment
---@return string
function M.attachment(a)
  local facts = { a.name, a.note }
  if a.bytes then
    facts[#facts + 1] = util.bytes(a.bytes)
  end
  if a.tokens then
    facts[#facts + 1] = util.count(a.tokens, 'token')
  end
  return M.one_line('[' .. table.concat(facts, ' · ') .. ']')
end

--- What the model gets of a conversation that ends with a question: no thoughts. A question that got
--- no answer begins the next one: what the conversation is about may stand there and nowhere else.
---@param turns gemma.chat.Turn[]
---@return gemma.Turn[] history
---@return gemma.Turn question
function M.prompt(turns)
  local out = {}
  for _, t in ipairs(turns) do
    local last = out[#out]
    if last and last.role == t.role then
      last.text = last.text .. '\n\n' .. t.text
      vim.list_extend(last.parts, t.parts or {})
    else
      out[#out + 1] = { role = t.role, text = t.text, parts = vim.list_slice(t.parts or {}) }
    end
  end
  local question = table.remove(out)
  return out, question
end

--- A conversation as a Markdown file.
---@param title string
---@param turns gemma.chat.Turn[]
---@return string[]
function M.markdown(title, turns)
  local out = { '# ' .. M.one_line(title) }
  local function add(heading, text)
    out[#out + 1] = ''
    if heading then
      out[#out + 1] = heading
      out[#out + 1] = ''
    end
    vim.list_extend(out, vim.split(vim.trim(M.printable(text)), '\n', { plain = true }))
  end
  for _, t in ipairs(turns) do
    if t.role == 'user' then
      add('## Question', t.shown and table.concat(t.shown, '\n') or t.text)
    else
      if t.thought and t.thought:find('%S') then
        add('## Thought', t.thought)
      end
      add('## Answer', t.text)
    end
  end
  return out
end

return M
