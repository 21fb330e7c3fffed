--- chat/init.lua: what :Gemma does with conversations that are there: list, open again, save.

local answer = require('gemma.answer')
local kept = require('gemma.chat.kept')
local notify = require('gemma.notify')

local M = {}

--- :Gemma answers. Without a number it lets choose, unless there is only one.
---@param n string?
function M.answers(n)
  local all = kept.all()
  if #all == 0 then
    return notify.info('there is no answer yet. Ask with :Gemma ask.')
  elseif n then
    local number = tonumber(n)
    local one = number and all[number]
    if not one then
      return notify.warn(('there is no answer %s; the newest of %d is 1.'):format(n, #all))
    end
    return answer.reopen(one)
  elseif #all == 1 then
    return answer.reopen(all[1])
  end
  vim.ui.select(all, {
    prompt = 'Answers',
    format_item = function(a)
      local asked = a.turns[1] and a.turns[1].shown or {}
      local words = {}
      for i = 1, math.min(#asked, 3) do
        words[#words + 1] = asked[i] ~= '' and asked[i] or nil
      end
      local text = table.concat(words, ' · ')
      return vim.fn.strcharpart(text ~= '' and text or a.title, 0, 70)
    end,
  }, function(one)
    if one then
      answer.reopen(one)
    end
  end)
end

--- :Gemma save. The conversation in the window, else the newest, as Markdown.
---@param path string? a new file in the current directory when not given
---@param force boolean over an existing file
function M.save(path, force)
  local a = kept.current() or kept.all()[1]
  if not a then
    return notify.info('there is no answer to save.')
  end
  if not path or path == '' then
    path = os.date('gemma-%Y%m%d-%H%M%S.md') --[[@as string]]
  end
  path = path:gsub('\\(%s)', '%1') -- as it is written for :write
  local file = require('gemma.util').path(path)
  local stat = vim.uv.fs_stat(file)
  if stat and (stat.type ~= 'file' or not force) then
    local how = stat.type == 'file' and 'Add ! to replace it.' or 'Give another name.'
    return notify.warn(('%s exists. %s'):format(path, how))
  end
  local text = table.concat(a:markdown(), '\n') .. '\n'
  local out, err = io.open(file, 'wb')
  local ok = out
  if out then
    ok, err = out:write(text)
    local closed, why = out:close()
    ok, err = ok and closed, err or why
  end
  if not ok then
    return notify.error(('cannot write %s: %s.'):format(path, err or 'unknown reason'))
  end
  notify.info(('saved as %s.'):format(path))
end

return M
